"""Names of classes: vocabularies of data sets, aliases, groups. Nothing about pictures."""
