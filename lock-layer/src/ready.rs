use std::mem;

/// Takes the service that reported ready; its clone, which did not, stays behind.
pub(crate) fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    mem::replace(service, clone)
}
