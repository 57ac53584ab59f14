//! The booking service as a process: its limit is exact, and nothing is booked twice.

#[path = "booking/bookings.rs"]
mod bookings;
#[path = "booking/contention.rs"]
mod contention;
#[path = "booking/deploy.rs"]
mod deploy;
#[path = "booking/doubles.rs"]
mod doubles;
#[path = "booking/faults.rs"]
mod faults;
#[path = "booking/grpc.rs"]
mod grpc;
#[path = "booking/limit.rs"]
mod limit;
#[path = "booking/limits.rs"]
mod limits;
#[path = "booking/metrics.rs"]
mod metrics;
#[path = "booking/round.rs"]
mod round;
#[path = "booking/wish.rs"]
mod wish;
