"""Pure folds of events: the state of a run, a training, a study or a sweep."""
