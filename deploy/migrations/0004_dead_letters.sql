-- Dead jobs whose letter is not in Redis yet: enqueued_at says when it was put there.
CREATE INDEX jobs_dead_unlisted ON jobs (finished_at) WHERE state = 'dead' AND enqueued_at IS NULL;
