CREATE UNIQUE INDEX IF NOT EXISTS one_booking_a_day ON booked_days (car, day);
