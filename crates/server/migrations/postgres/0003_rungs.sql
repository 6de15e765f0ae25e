-- Of X.509-SVIDs for later, `rung` is set: whoever asked for them has them until they end or were revoked.
ALTER TABLE issued ADD COLUMN rung BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE issued ADD COLUMN revoked_at BIGINT;
CREATE INDEX issued_rungs ON issued (requester, entry_id, not_after) WHERE rung;
CREATE INDEX issued_rungs_by_entry ON issued (entry_id, not_after) WHERE rung;

-- The newest bundle that each agent says it has.
CREATE TABLE acknowledged (
    agent_id TEXT   PRIMARY KEY,
    sequence BIGINT NOT NULL
);
