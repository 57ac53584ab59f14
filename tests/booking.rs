//! The booking service as a process: its limit is exact, and nothing is booked twice.

#[path = "booking/bookings.rs"]
mod bookings;
#[path = "booking/contention.rs"]
mod contention;
#[path = "booking/deploy.rs"]
mod deploy;
#[path = "booking/limit.rs"]
mod limit;
#[path = "booking/metrics.rs"]
mod metrics;
#[path = "booking/wish.rs"]
mod wish;
