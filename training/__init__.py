"""Train the embedding networks: recordings -> run folder."""

from serving.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()
