"""Is one run or learner better than another: candidates, statistics, plot."""
