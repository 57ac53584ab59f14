//! The messages of `bookings.proto`, as `prost-build` would write them.

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BookRequest {
    #[prost(uint32, tag = "1")]
    pub(super) car: u32,
    #[prost(string, tag = "2")]
    pub(super) from: String,
    #[prost(string, tag = "3")]
    pub(super) to: String,
    #[prost(string, tag = "4")]
    pub(super) customer: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BookedReply {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(uint32, tag = "2")]
    pub(super) car: u32,
    #[prost(string, tag = "3")]
    pub(super) from: String,
    #[prost(string, tag = "4")]
    pub(super) to: String,
    #[prost(string, tag = "5")]
    pub(super) customer: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRequest {
    #[prost(uint32, tag = "1")]
    pub(super) car: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListReply {
    #[prost(message, repeated, tag = "1")]
    pub(super) bookings: Vec<BookedReply>,
}
