#![doc = include_str!("../../docs/grpc.md")]

mod client_protocol;
mod code;
mod details;
mod message;
mod method_path;
mod outcome;
mod reason;
mod status;
mod web;

pub use self::{
    client_protocol::ClientProtocol,
    code::Code,
    message::{Message, MessageCount},
    method_path::MethodPaths,
    outcome::CallOutcome,
    reason::{Detail, Reason},
    status::Status,
};
