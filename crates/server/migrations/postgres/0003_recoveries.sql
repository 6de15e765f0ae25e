-- By which device key a node comes back, and who has asked to. `waiting`: a person is to decide. `heard_at`: when the node last got an SVID.
CREATE TABLE recoveries (
    agent_id TEXT    PRIMARY KEY,
    heard_at BIGINT,
    waiting  BOOLEAN NOT NULL,
    body     TEXT    NOT NULL
);
CREATE INDEX recoveries_waiting ON recoveries (agent_id) WHERE waiting;
