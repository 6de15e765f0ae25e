-- What an entry may have ahead. `jwt_offline` is a JSON array of audience and seconds.
ALTER TABLE entry_policies ADD COLUMN reserve INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry_policies ADD COLUMN privileged INTEGER NOT NULL DEFAULT 0 CHECK (privileged IN (0, 1));
ALTER TABLE entry_policies ADD COLUMN jwt_offline TEXT NOT NULL DEFAULT '[]';
-- Of X.509-SVIDs for later, `rung` is set: whoever asked for them has them until they end or were revoked.
ALTER TABLE issued ADD COLUMN rung INTEGER NOT NULL DEFAULT 0 CHECK (rung IN (0, 1));
ALTER TABLE issued ADD COLUMN revoked_at INTEGER;
CREATE INDEX issued_rungs ON issued (requester, entry_id, not_after) WHERE rung = 1;
CREATE INDEX issued_rungs_by_entry ON issued (entry_id, not_after) WHERE rung = 1;
-- The newest bundle that each agent says it has.
CREATE TABLE acknowledged (
    agent_id TEXT    PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;
