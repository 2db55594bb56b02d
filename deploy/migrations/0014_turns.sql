-- Waiting creates and resumes by owner, so that a claim can take them in turn.
CREATE INDEX jobs_turn ON jobs ((coalesce(owner, '')), run_at)
    WHERE op IN ('create', 'resume') AND state IN ('queued', 'retry_wait');
CREATE INDEX jobs_running_owner ON jobs ((coalesce(owner, ''))) WHERE state = 'running';
