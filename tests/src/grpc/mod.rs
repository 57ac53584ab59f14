//! A service of gRPC without generated code, its client, and servers for it.

mod bytes;
mod call;
mod client;
mod codec;
mod compare;
mod echo;
mod server;
mod site;
mod web;

pub use self::{
    bytes::{BINARY, add_binary_metadata, messages},
    call::call,
    client::EchoClient,
    codec::BytesCodec,
    compare::{assert_same_reply, until},
    echo::{Echo, FAIL, HOLD, REPLIES},
    server::{GrpcServer, channel},
    site::Site,
    web::WebReply,
};
