"""The bundle folder: its files, the facts in its manifest, and the checks without which none is opened.

bundle         a verified bundle;  bundle_files  the names of its files
manifest       the facts about its making;  manifest_check  whether they are of the wanted form
signature      who vouches for it
onnx_check     whether a graph is one of ours;  onnx_cost, onnx_precision  what it computes, and in which precision
               (onnx_skeleton and protobuf_fields read it without onnx)

Nothing is imported here: the doctor needs the names of the files where packages are broken.
"""
