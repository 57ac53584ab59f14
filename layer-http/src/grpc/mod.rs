#![doc = include_str!("../../docs/grpc.md")]

mod client_protocol;
mod code;
mod details;
mod reason;
mod status;
mod web;

pub use self::{
    client_protocol::ClientProtocol,
    code::Code,
    reason::{Detail, Reason},
    status::Status,
};
