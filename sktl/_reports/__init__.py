"""Reports: self-contained HTML pages with the findings of an audit, or the evaluation of a model."""
