"""By what `cbs-eval` scores stylers, one file each; nothing that is trained with."""
