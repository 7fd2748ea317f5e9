//! The tables, and how older ones become newer ones.

/// Each script leads from one version to the next; the file's version is its `user_version`.
pub(super) const MIGRATIONS: [&str; 4] = [
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
",
];
