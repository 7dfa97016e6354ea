"""The pages of the studio, one file per tab.

In it: layout, events and module-level handlers. Not in it: anything that computes; no file here imports torch,
diffusers or transformers, and what a tab calls reaches it through `AppContext`.
"""
