-- since: 0.4.0
-- reversible: no (the milliseconds can't be brought back)

-- Only with the feature demo-irreversible: what a release that can't be undone does to a database, in the demonstration. The
-- events aren't what was sealed any more, so the chain begins anew behind them.
UPDATE events_00 SET at_ms = at_ms - at_ms % 1000 WHERE at_ms % 1000 <> 0;
UPDATE events_01 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_02 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_03 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_04 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_05 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_06 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_07 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_08 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_09 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_10 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_11 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_12 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_13 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_14 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
UPDATE events_15 SET at_ms = at_ms - at_ms % 1000, seal = NULL;
DELETE FROM seals_00;
DELETE FROM chain;
