//! A service of gRPC without generated code, its client, and servers for it.

mod client;
mod codec;
mod compare;
mod echo;
mod server;

pub use self::{
    client::EchoClient,
    codec::BytesCodec,
    compare::{assert_same_reply, until},
    echo::{Echo, FAIL, HOLD, REPLIES},
    server::{GrpcServer, channel},
};
