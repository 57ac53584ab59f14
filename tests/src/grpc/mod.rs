//! A service of gRPC without generated code, its client, and servers for it.

mod bytes;
mod client;
mod codec;
mod compare;
mod echo;
mod server;

pub use self::{
    bytes::{BINARY, add_binary_metadata, messages},
    client::EchoClient,
    codec::BytesCodec,
    compare::{assert_same_reply, until},
    echo::{Echo, FAIL, HOLD, REPLIES},
    server::{GrpcServer, channel},
};
