CREATE TABLE IF NOT EXISTS cars (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    seats INTEGER NOT NULL,
    price_per_day INTEGER NOT NULL, -- in pence
    fence INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO cars (id, model, seats, price_per_day) VALUES
    (1, 'Fiat Panda', 4, 2900),
    (2, 'Renault Clio', 5, 3200),
    (3, 'Skoda Octavia', 5, 4500),
    (4, 'Volkswagen Golf', 5, 4200),
    (5, 'Volvo V60', 5, 6400),
    (6, 'Tesla Model 3', 5, 7900),
    (7, 'Ford Tourneo', 8, 8500),
    (8, 'Morgan Plus Four', 2, 21000);

CREATE TABLE IF NOT EXISTS bookings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    car INTEGER NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    customer TEXT NOT NULL,
    fence INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS booked_days (
    car INTEGER NOT NULL,
    day TEXT NOT NULL,
    booking INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS days_of_a_car ON booked_days (car, day);
CREATE INDEX IF NOT EXISTS days_of_a_booking ON booked_days (booking);

-- The highest fence that has come for a day, whether it was booked then or not.
CREATE TABLE IF NOT EXISTS fences (
    car INTEGER NOT NULL,
    day TEXT NOT NULL,
    fence INTEGER NOT NULL,
    PRIMARY KEY (car, day)
) WITHOUT ROWID;
