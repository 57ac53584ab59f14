#![doc = include_str!("../../docs/grpc.md")]

mod call_result;
mod client_protocol;
mod code;
mod details;
mod message;
mod outcome;
mod reason;
mod status;
mod web;

pub use self::{
    call_result::CallResult,
    client_protocol::ClientProtocol,
    code::Code,
    message::{Message, MessageCount},
    outcome::CallOutcome,
    reason::{Detail, Reason},
    status::Status,
};
