//! The tables, and how older ones become newer ones.

/// Each script leads from one version to the next; the file's version is its `user_version`.
pub(super) const MIGRATIONS: [&str; 6] = [
    "
    -- What holds for the whole run: variables, solver, settings.
    CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

    -- Every checkpoint that was dealt with, and how it ended.
    CREATE TABLE checkpoint (
        network TEXT NOT NULL,
        identity TEXT NOT NULL,
        step INTEGER NOT NULL,
        path TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT,
        time REAL NOT NULL,
        PRIMARY KEY (network, identity)
    ) STRICT;

    -- Every pair that was evaluated, and the policy's memory after it.
    CREATE TABLE pair (
        step INTEGER PRIMARY KEY,
        time REAL NOT NULL,
        target TEXT NOT NULL,
        baseline TEXT NOT NULL,
        finite INTEGER NOT NULL,
        samples INTEGER NOT NULL,
        certified INTEGER NOT NULL,
        gap_max REAL NOT NULL,
        monitors TEXT NOT NULL,
        strengths TEXT NOT NULL,
        policy TEXT NOT NULL
    ) STRICT;

    -- Decisions, with the control document that each becomes.
    CREATE TABLE decision (
        generation INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        step INTEGER NOT NULL,
        decision TEXT NOT NULL,
        document TEXT NOT NULL,
        delivered REAL
    ) STRICT;

    -- Answers of the trainers.
    CREATE TABLE acknowledgement (
        network TEXT NOT NULL,
        generation INTEGER NOT NULL,
        step INTEGER NOT NULL,
        time REAL NOT NULL,
        PRIMARY KEY (network, generation)
    ) STRICT;
",
    "
    -- What a lower precision than float32 does to an effect, as a JSON list by network.
    ALTER TABLE pair ADD COLUMN noise_floor TEXT;
",
    "
    -- What the monitors of a pair rest on, read only by who computes them again: the totals of every sample in
    -- the form of `Samples`, and the names of the value tables in the cache.
    CREATE TABLE evidence (
        step INTEGER PRIMARY KEY,
        samples BLOB,
        target_values TEXT,
        baseline_values TEXT
    ) STRICT;

    -- What rules had to say beside decisions.
    CREATE TABLE notice (
        id TEXT PRIMARY KEY,
        step INTEGER NOT NULL,
        notice TEXT NOT NULL
    ) STRICT;
",
    "
    -- Of ten thousand pairs, what is asked at each start and by `status` is found without reading them. The
    -- last is also what pairs are counted by, since it is the smallest.
    CREATE INDEX checkpoint_outcome ON checkpoint (outcome, step, network);
    CREATE INDEX checkpoint_step ON checkpoint (network, step);
    CREATE INDEX pair_noise_floor ON pair (noise_floor);
    CREATE INDEX notice_step ON notice (step);
",
    "
    -- When an answer was noticed, by this side's clock.
    ALTER TABLE acknowledgement ADD COLUMN seen REAL;

    -- Rungs of the ladder that were begun, by the seconds after which they come; never one twice.
    CREATE TABLE escalation (
        generation INTEGER NOT NULL,
        after REAL NOT NULL,
        kind TEXT NOT NULL,
        measure TEXT NOT NULL,
        time REAL NOT NULL,
        result TEXT,
        detail TEXT,
        PRIMARY KEY (generation, after)
    ) STRICT;

    -- The process of a trainer as it was first seen in its pid file, as JSON.
    CREATE TABLE sighting (network TEXT PRIMARY KEY, sighting TEXT NOT NULL) STRICT;

    -- What is told to webhooks: open until it is delivered or given up.
    CREATE TABLE notification (
        webhook TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        time REAL NOT NULL,
        ended REAL,
        delivered INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT,
        PRIMARY KEY (webhook, id)
    ) STRICT;
    CREATE INDEX notification_open ON notification (time) WHERE ended IS NULL;
    CREATE INDEX notification_untold ON notification (time) WHERE delivered IS NOT 1;

    -- What changed the policy's memory from outside, in order: a person's decision, or another policy. `after` is
    -- the step of the last pair before it, `policy` the memory after it.
    CREATE TABLE intervention (
        number INTEGER PRIMARY KEY,
        after INTEGER,
        time REAL NOT NULL,
        intervention TEXT NOT NULL,
        policy TEXT NOT NULL
    ) STRICT;
",
    "
    -- The request by which a person asked for a decision: what was done before a crash is found by it.
    ALTER TABLE decision ADD COLUMN request TEXT;
    CREATE UNIQUE INDEX decision_request ON decision (request) WHERE request IS NOT NULL;

    -- The decision that a webhook is told of, where it is one.
    ALTER TABLE notification ADD COLUMN generation INTEGER;
    UPDATE notification SET generation = json_extract(body, '$.control.generation') WHERE json_valid(body);
    -- Each webhook asks for its own; what has ended goes when it is old.
    DROP INDEX notification_open;
    CREATE INDEX notification_open ON notification (webhook, time) WHERE ended IS NULL;
    CREATE INDEX notification_ended ON notification (time) WHERE ended IS NOT NULL;

    -- The last number that was given away, by what is numbered.
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
",
];
