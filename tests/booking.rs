//! The booking service as a process: its limit, exactly, and its store when that stands still, dies, or comes back empty.

#[path = "booking/limit.rs"]
mod limit;
#[path = "booking/outage.rs"]
mod outage;
