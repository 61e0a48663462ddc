-- After a restore of Postgres to an earlier moment, before any process is started. Safe to repeat.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f ops/postgres/after_restore.sql
--
-- What was unfinished at that moment is written anew. Between that moment and the disaster others may have written it, under
-- attempts that the restored row does not know, and readers have had those. The attempts to come are above all of them, so
-- that a reader who comes back is told the new story, and nothing of the old one is taken for it.
-- Redis is emptied beside it (docs/deployment.md): its logs tell of a time that has not happened.

BEGIN;
UPDATE messages
   SET attempt = attempt + 1000000, lease_owner = NULL, lease_until = NULL, rung_at = NULL, updated_at = now()
 WHERE role = 'assistant' AND status IN ('pending', 'building');
-- what was final is so in the row; its end needs no log
UPDATE messages SET ending_appended = true WHERE NOT ending_appended;
-- tickets that were used since would be good once more
DELETE FROM tickets;
COMMIT;
