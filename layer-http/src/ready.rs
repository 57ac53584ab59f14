use std::mem;

/// Takes the service that reported ready, and leaves a clone in its place.
///
/// For a call that has to wait before it reaches the inner service. The clone has not reported ready, and calling it instead
/// is a common mistake (`tower_service::Service`, "Be careful when cloning inner services").
///
/// ```
/// # let mut inner = tower::service_fn(async |_: ()| Ok::<_, ()>(()));
/// // In `call`, where `inner` is a field of the service:
/// let ready = layer_http::take_ready(&mut inner);
/// # let _ = ready;
/// ```
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    mem::replace(service, clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_service_is_taken_and_its_clone_stays() {
        #[derive(Debug, PartialEq)]
        struct Ready(bool);
        impl Clone for Ready {
            fn clone(&self) -> Self {
                Self(false)
            }
        }
        let mut service = Ready(true);
        assert_eq!(take_ready(&mut service), Ready(true));
        assert_eq!(service, Ready(false));
    }
}
