"""A database as it is after months of use, made in a minute: a million messages, and what hangs on them.

Skewed as real ones are: one project has a tenth of all messages, most have dozens; one user is a member of thousands of
projects; nearly all answers are over, few are unfinished. Projects' messages come mixed in time, so that a project's rows lie
all over the table.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text

from shared.engine import sqlalchemy_url
from shared.lifecycle import ErrorCode
from shared.models import Base
from shared.records import Principal
from shared.store import Store
from shared.store.access import digest

DAYS: Final = 90
_SIZES: Final = (100_000, 10_000, 1_000, 100, 10)
"""Messages of the projects that questions are asked about, in a database of a million; of a smaller one, a share."""
_WHOLE: Final = 1_000_000
_ORDINARY: Final = 40
"""Messages of an ordinary project, on average."""
_SEED: Final = 20261126
OWNER: Final = "user-1"
TOKEN: Final = "token-of-user-1"


class Filled(NamedTuple):
    """Where to ask."""

    engine: Engine
    store: Store
    owner: Principal
    """A member of every project that is named here, and of thousands of others."""
    token_sha256: bytes
    projects: dict[int, UUID]
    """By how many messages each has."""
    messages: int
    now: datetime

    @property
    def largest(self) -> UUID:
        return self.projects[max(self.projects)]

    def answers(self, project_id: UUID, where: str, limit: int = 1) -> list[UUID]:
        """The newest of a project's answers of which an SQL condition holds."""
        statement = f"""
            SELECT id FROM messages WHERE project_id = :project AND role = 'assistant' AND ({where})
            ORDER BY id DESC LIMIT :limit
        """
        with self.engine.connect() as connection:
            rows = connection.execute(text(statement), {"project": project_id, "limit": limit})
            return list(rows.scalars())


def fill(url: str, engine: Engine, *, messages: int) -> Filled:
    """Fill a migrated, empty database. `engine` is the one that will be asked; it is not used meanwhile."""
    sizes = [max(size * messages // _WHOLE, least) for size, least in zip(_SIZES, (50, 40, 30, 20, 10), strict=True)]
    ordinary = max(20, (messages - sum(sizes)) // _ORDINARY)
    filling = create_engine(sqlalchemy_url(url))
    try:
        with filling.begin() as connection:
            # what refers to something is made right by how it is made
            connection.execute(text("SET session_replication_role = replica"))
            connection.execute(text("SELECT setseed(:seed)"), {"seed": _SEED / 1e9})
            for statement in _people_and_projects(ordinary):
                connection.execute(text(statement), {"named": len(sizes), "projects": len(sizes) + ordinary})
            _messages(connection, sizes, messages)
            for statement in _BESIDE:
                connection.execute(text(statement), {"messages": messages})
            for table in Base.metadata.tables:  # the same statistics for all that is asked
                connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        with filling.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            named = connection.execute(
                text(
                    "SELECT p.id, count(m.id) AS messages FROM projects p JOIN messages m ON m.project_id = p.id"
                    " WHERE p.name LIKE 'named-%' GROUP BY p.id"
                )
            ).all()
            user_id = connection.execute(text("SELECT id FROM users WHERE name = :name"), {"name": OWNER}).scalar_one()
            now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            made = connection.execute(text("SELECT count(*) FROM messages")).scalar_one()
    finally:
        filling.dispose()
    return Filled(
        engine=engine,
        store=Store(engine),
        owner=Principal(user_id=user_id, user=OWNER, scopes=frozenset({"ops"})),
        token_sha256=digest(TOKEN),
        projects={row.messages: row.id for row in named},
        messages=made,
        now=now,
    )


def _people_and_projects(ordinary: int) -> list[str]:
    users = max(20, ordinary // 10)
    return [
        f"INSERT INTO users (name) SELECT 'user-' || n FROM generate_series(1, {users}) AS n",
        f"""
        CREATE TEMP TABLE people AS
        SELECT id, row_number() OVER (ORDER BY id) AS number, {users} AS people FROM users
        """,
        """
        INSERT INTO projects (name, document, version, newest_queue_number, created_at)
        SELECT CASE WHEN n <= :named THEN 'named-' ELSE 'project-' END || n,
               json_build_object('scenes', (SELECT json_agg(json_build_object('id', s, 'text', repeat('a scene ', 8)))
                                            FROM generate_series(1, 1 + (random() * 12)::int) AS s)),
               1, 0, now() - interval '100 days'
        FROM generate_series(1, :projects) AS n
        """,
        """
        CREATE TEMP TABLE places AS
        SELECT id, row_number() OVER (ORDER BY id) AS number FROM projects
        """,
        # each has an owner; a fifth are the owner's of all that is asked about; the largest has a thousand viewers
        """
        INSERT INTO members (project_id, user_id, role)
        SELECT places.id, people.id, 'owner'
        FROM places JOIN people ON people.number = CASE
            WHEN places.number <= :named OR places.number % 5 = 0 THEN 1 ELSE 1 + places.number % people.people END
        """,
        """
        INSERT INTO members (project_id, user_id, role)
        SELECT places.id, people.id, CASE WHEN people.number % 2 = 0 THEN 'editor' ELSE 'viewer' END::member_role
        FROM places CROSS JOIN LATERAL generate_series(1, CASE WHEN places.number = 1 THEN 1000 ELSE 2 END) AS n
        JOIN people ON people.number = 1 + (places.number * 7 + n * 13) % people.people
        ON CONFLICT DO NOTHING
        """,
        # a tenth are good
        """
        INSERT INTO tokens (sha256, user_id, scopes, expires_at, revoked_at, created_at, last_used_at)
        SELECT sha256(('token-of-' || u.name || CASE WHEN n = 1 THEN '' ELSE '-' || n END)::bytea), u.id, '{}',
               CASE WHEN n % 2 = 0 THEN now() - make_interval(days => n * 3) END,
               CASE WHEN n % 2 = 1 AND n > 1 THEN now() - make_interval(days => n * 3) END,
               now() - interval '95 days', now()
        FROM users u, generate_series(1, 10) AS n
        """,
        # of those of an identity provider half have expired
        """
        INSERT INTO tokens (sha256, user_id, scopes, issuer, expires_at, created_at, last_used_at)
        SELECT sha256(('jwt-of-' || u.name || '-' || n)::bytea), u.id, '{}', 'https://id.example',
               now() + CASE WHEN n = 1 THEN interval '1 hour' ELSE - interval '1 hour' END, now(), now()
        FROM users u, generate_series(1, 2) AS n
        """,
    ]


_PAIRS: Final = """
    CREATE TEMP TABLE pairs AS
    WITH wanted AS (
        SELECT places.id AS project_id, places.number,
               CASE WHEN places.number <= :named THEN (CAST(:sizes AS int[]))[places.number] / 2
                    ELSE 1 + (places.number * 7919 % 39)::int END AS pairs
        FROM places
    ), mixed AS (
        SELECT project_id, number, row_number() OVER (ORDER BY random()) AS i
        FROM wanted, generate_series(1, wanted.pairs)
    ), total AS (SELECT count(*) AS pairs FROM mixed)
    SELECT i, project_id, mixed.number, total.pairs - i AS age,
           clock_timestamp() - make_interval(secs => (total.pairs - i) * :seconds / total.pairs) AS at,
           row_number() OVER (PARTITION BY project_id ORDER BY i) AS queue_number
    FROM mixed, total
"""
_MADE: Final = """
    CREATE TEMP TABLE made AS
    SELECT pairs.*, uuidv7(at - clock_timestamp()) AS question, uuidv7(at - clock_timestamp() + interval '2 ms') AS answer,
           people.id AS author, random() AS luck, random() AS talk
    FROM pairs JOIN people ON people.number = CASE
        WHEN pairs.number <= :named THEN 1 + pairs.i % 3 ELSE 1 + pairs.number % people.people END
    ORDER BY pairs.i
"""
_QUESTIONS_AND_ANSWERS: Final = """
    INSERT INTO messages (id, project_id, author_id, role, kind, status, content, error_code, model, reply_to, usage,
                          total_tokens, timing, attempt, queue_number, rung_at, last_event_id, ending, enqueued_at,
                          claimed_at, first_token_ms, created_at, updated_at)
    SELECT row.*
    FROM made CROSS JOIN LATERAL (
        SELECT repeat('some words of an answer. ', 4 + (talk * talk * 60)::int) AS said,
               CASE WHEN luck < 0.94 THEN 'success' WHEN luck < 0.98 THEN 'error' ELSE 'cancelled' END AS became,
               CASE WHEN luck BETWEEN 0.94 AND 0.98 THEN (CAST(:codes AS text[]))[1 + (talk * (:count - 1))::int] END
                 AS code,
               json_build_object('queuedMs', 20, 'firstTokenMs', 400 + (talk * 900)::int, 'totalMs',
                                 3000 + (talk * 9000)::int) AS timing
    ) AS answers CROSS JOIN LATERAL (VALUES
        (question, project_id, author, 'user'::message_role, 'message'::message_kind, 'success'::message_status,
         'Would you please change the scene number ' || i || ', and make it a little brighter?', NULL, NULL,
         NULL::uuid, NULL::json, 0, NULL::json, 0, NULL::bigint, NULL::timestamptz, NULL, NULL::bytea[],
         NULL::timestamptz, NULL::timestamptz, NULL::int, at, at),
        (answer, project_id, author, 'assistant', CASE WHEN code IS NULL THEN 'text' ELSE 'error' END::message_kind,
         became::message_status, said, code, CASE WHEN i % 3 = 0 THEN 'gpt-5' ELSE 'gpt-5-mini' END, question,
         json_build_object('promptTokens', 900, 'completionTokens', length(said) / 4, 'totalTokens',
                           900 + length(said) / 4),
         900 + length(said) / 4, timing, 1 + (luck > 0.9)::int, queue_number, at, '1-' || (talk * 300)::int,
         ARRAY[convert_to(json_build_object('type', 'complete', 'id', '1-300', 'messageId', answer, 'ts', 1,
                                            'finalContent', said)::text, 'UTF8'),
               convert_to(json_build_object('type', 'finalized', 'id', '1-301', 'messageId', answer, 'ts', 1,
                                            'status', became, 'timing', timing)::text, 'UTF8')],
         at, at + interval '20 ms', 400, at + interval '2 ms', at + interval '9 s')
    ) AS row
    ORDER BY made.i
"""
_UNFINISHED: Final = """
    UPDATE messages SET status = kind.status::message_status, kind = 'status', content = '', error_code = NULL,
           timing = NULL, ending = NULL, total_tokens = 0, last_event_id = NULL, job_id = NULL,
           enqueued_at = now() - make_interval(secs => kind.age % 30), updated_at = now(),
           rung_at = now() - interval '1 second', claimed_at = CASE WHEN kind.held THEN now() END,
           lease_owner = CASE WHEN kind.held THEN 'worker-' || kind.age % 7 || '/' || kind.age END,
           lease_until = CASE WHEN kind.held THEN now() + interval '1 hour' END
    FROM (
        -- of what came last: half is held, a tenth is being built
        SELECT answer, age, age % 2 = 0 AS held, CASE WHEN age % 10 IN (0, 1) THEN 'building' ELSE 'pending' END AS status
        FROM made WHERE age < greatest(40, CAST(:messages AS int) / 2000)
    ) AS kind WHERE id = kind.answer
"""


def _messages(connection: Connection, sizes: list[int], messages: int) -> None:
    # an index that is made at the end takes a fraction of one that is kept up row by row
    indexes = connection.execute(
        text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'messages' AND schemaname = 'public'"
            " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
    ).all()
    for index in indexes:
        connection.execute(text(f'DROP INDEX "{index.indexname}"'))
    connection.execute(text(_PAIRS), {"named": len(sizes), "sizes": sizes, "seconds": DAYS * 86_400})
    connection.execute(text(_MADE), {"named": len(sizes)})
    codes = [code.value for code in ErrorCode]
    connection.execute(text(_QUESTIONS_AND_ANSWERS), {"codes": codes, "count": len(codes)})
    connection.execute(text("CREATE UNIQUE INDEX ON made (answer)"))
    connection.execute(text("ANALYZE made"))
    connection.execute(text(_UNFINISHED), {"messages": messages})
    for index in indexes:
        connection.execute(text(index.indexdef))


_BESIDE: Final = (
    """
    UPDATE projects SET newest_queue_number = newest.number, updated_at = now()
    FROM (SELECT project_id, max(queue_number) AS number FROM made GROUP BY project_id) AS newest
    WHERE projects.id = newest.project_id
    """,
    # a third of all answers edit the document
    """
    INSERT INTO rounds (message_id, run, round, attempt, text, calls, document_version, created_at)
    SELECT answer, 1, 0, 1, repeat('some words. ', 5),
           json_build_array(json_build_object('tool_call_id', 'call-' || i, 'name', 'applyJsonPatch', 'arguments', '{}')),
           1, at + interval '5 s'
    FROM made WHERE i % 3 = 0
    """,
    """
    INSERT INTO tool_ledger (tool_call_id, message_id, run, round, index, attempt, name, arguments, succeeded,
                             final_content, result, version, created_at)
    SELECT 'call-' || i, answer, 1, 0, 0, 1, 'applyJsonPatch',
           '{"operations":[{"op":"replace","path":"/scenes/0/text","value":"' || repeat('words ', 10) || '"}]}', true,
           'Changed the text.', '{"applied": true}', 1 + queue_number / 3, at + interval '6 s'
    FROM made WHERE i % 3 = 0
    """,
    """
    INSERT INTO document_versions (project_id, version, operations, inverse, message_id, created_at)
    SELECT project_id, 1 + row_number() OVER (PARTITION BY project_id ORDER BY i),
           json_build_array(json_build_object('op', 'replace', 'path', '/scenes/0/text', 'value', 'words ' || i)),
           json_build_array(json_build_object('op', 'replace', 'path', '/scenes/0/text', 'value', 'words ' || i - 1)),
           answer, at + interval '6 s'
    FROM made WHERE i % 3 = 0
    """,
    """
    UPDATE projects SET version = newest.version
    FROM (SELECT project_id, max(version) AS version FROM document_versions GROUP BY project_id) AS newest
    WHERE projects.id = newest.project_id
    """,
    # one answer in fifty has had a component built
    """
    INSERT INTO component_jobs (project_id, message_id, tool_call_id, name, effect_description, status, source,
                                source_sha256, bundle, bundle_sha256, created_at, updated_at)
    SELECT project_id, answer, 'job-call-' || i, 'Sparkles', 'Sparks that fall', became::job_status,
           CASE WHEN became = 'success' THEN repeat('const x = 1; ', 100) END, NULL,
           CASE WHEN became = 'success' THEN repeat('const x=1;', 100) END, NULL, at, at + interval '1 minute'
    FROM made, LATERAL (SELECT CASE WHEN i % 7 = 0 THEN 'error' ELSE 'success' END AS became) AS jobs
    WHERE i % 50 = 0
    """,
    # what is building has a job that waits, or is written
    """
    INSERT INTO component_jobs (project_id, message_id, tool_call_id, name, effect_description, status)
    SELECT project_id, id, 'open-job-' || id, 'Rain', 'Rain', CASE WHEN lease_owner IS NULL THEN 'pending'
           ELSE 'building' END::job_status
    FROM messages WHERE status = 'building'
    """,
    """
    UPDATE messages SET job_id = jobs.id FROM component_jobs AS jobs
    WHERE jobs.message_id = messages.id AND messages.status = 'building'
    """,
    # keys of two days, which is as long as they are kept
    """
    INSERT INTO idempotency_keys (user_id, project_id, key, body_sha256, assistant_message_id, created_at)
    SELECT author, project_id, 'key-' || i, sha256(i::text::bytea), answer, at
    FROM made WHERE at > now() - interval '50 hours' OR i % 1000 = 0
    """,
    # addresses of streams, most of which have run out
    """
    INSERT INTO tickets (sha256, user_id, token_sha256, path, single_use, expires_at)
    SELECT sha256(('ticket-' || n)::bytea), people.id, tokens.sha256, '/v1/messages/x/events', n % 2 = 0,
           now() + make_interval(secs => CASE WHEN n % 4 = 0 THEN 300 ELSE -n END)
    FROM generate_series(1, CAST(:messages AS int) / 200) AS n
    JOIN people ON people.number = 1 + n % people.people
    JOIN tokens ON tokens.user_id = people.id AND tokens.expires_at IS NULL AND tokens.revoked_at IS NULL
    """,
    # what failed was answered again, in fifty batches that are over; one is under way
    """
    INSERT INTO batches (status, filter, asked_by, created_at, ended_at, told, told_at, sent_at)
    SELECT CASE WHEN n = 51 THEN 'running' ELSE 'done' END::batch_status, '{"status":"error"}', 'ops',
           now() - make_interval(days => 52 - n), CASE WHEN n < 51 THEN now() - make_interval(days => 51 - n) END,
           '{"status":"running","sent": 0}', now(), now() - make_interval(days => 52 - n)
    FROM generate_series(1, 51) AS n
    """,
    """
    INSERT INTO batch_items (batch_id, message_id, project_id, model, state, first_code, run, tries, sent_at, ended_at)
    SELECT places.id, answer, project_id, 'gpt-5', CASE WHEN places.number = 51 THEN 'waiting' WHEN talk < 0.7
           THEN 'succeeded' ELSE 'failed' END::item_state, 'internal', 1, 1,
           CASE WHEN places.number < 51 THEN at + interval '1 day' END,
           CASE WHEN places.number < 51 THEN at + interval '1 day 1 minute' END
    FROM made JOIN (SELECT id, row_number() OVER (ORDER BY created_at) AS number FROM batches) AS places
         ON places.number = CASE WHEN made.i % 2 = 0 THEN 51 ELSE 1 + (made.i * 51 / (SELECT max(i) + 1 FROM made)) END
    WHERE luck BETWEEN 0.94 AND 0.98 AND age > greatest(40, CAST(:messages AS int) / 2000)
    """,
    # of the one under way, some are sent
    """
    UPDATE batch_items SET state = 'sent', sent_at = now()
    FROM (SELECT message_id, batch_id FROM batch_items WHERE state = 'waiting' LIMIT 20) AS first
    WHERE batch_items.message_id = first.message_id AND batch_items.batch_id = first.batch_id
    """,
    """
    UPDATE messages SET status = 'pending', kind = 'status', error_code = NULL, ending = NULL, waits = false,
           enqueued_at = now() - interval '5 seconds', rung_at = NULL, batch_id = items.batch_id
    FROM batch_items AS items WHERE items.message_id = messages.id AND items.state = 'sent'
    """,
    """
    INSERT INTO audits (began_at, ended_at, looked_at, found, repaired, disagreements_left)
    SELECT now() - make_interval(days => n), now() - make_interval(days => n), '{}', '{}', '{}', 0
    FROM generate_series(1, 120) AS n
    """,
    "INSERT INTO sweepers (name, swept_at) SELECT 'sweeper-' || n, now() FROM generate_series(1, 3) AS n",
    # leases that ran out, and endings that nobody acknowledged
    """
    UPDATE messages SET lease_until = now() - interval '1 minute'
    WHERE id IN (SELECT id FROM messages WHERE lease_owner IS NOT NULL LIMIT 5)
    """,
    """
    UPDATE messages SET ending_appended = false, updated_at = now() - interval '1 minute'
    WHERE id IN (SELECT answer FROM made JOIN messages ON id = answer WHERE status = 'success' ORDER BY i DESC LIMIT 5)
    """,
)
