SELECT 'readings of sensor ' || sensor_id || ', which is not known' FROM (SELECT DISTINCT sensor_id FROM readings) WHERE sensor_id NOT IN (SELECT id FROM sensors);
SELECT name || ' was left parked' FROM sqlite_schema WHERE name IN ('parked_sensors', 'parked_readings');
