"""Pure folds of events: where a run, a training, a study or a sweep stands."""
