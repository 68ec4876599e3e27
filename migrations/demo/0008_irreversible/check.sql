-- Somebody's own rows make the rehearsal fail on one machine and not on another.
SELECT 'event ' || id || ' is poison' FROM events WHERE topic = 'demo.poison';
