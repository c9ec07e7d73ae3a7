"""Export a run folder as a bundle, and check that the exported models equal the trained one."""

from serving.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()
