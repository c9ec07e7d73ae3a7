"""From an embedding and labels to a ranking.

zeroshot     the map and its scores;  zeroshot_file  how it is stored
label_space  what can be a label: classes, and any text;  label_text  its comparable form
label_lists  the classes of ESC-50 and FSC22;  example_labels  the labels of a folder of examples
ranking      labels with probabilities (probabilities has the softmax)
"""

from serving.zeroshot.zeroshot import LARGEST_OFFSET, TextEncoder, ZeroShot, unit_rows

__all__ = ["LARGEST_OFFSET", "TextEncoder", "ZeroShot", "unit_rows"]
