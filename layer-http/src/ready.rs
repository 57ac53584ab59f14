use std::mem;

/// Takes the instance that reported ready and leaves a clone, which did not: for a call that has to wait before it reaches the
/// inner service. Calling the clone instead is the classic fault (`tower_service::Service`, "Be careful when cloning inner
/// services").
pub fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    mem::replace(service, clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_one_goes_and_its_clone_stays() {
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
