//! stub
use crate::{args::DemoArgs, failure::Failure, out::Out};
pub(crate) async fn demo(_: &DemoArgs, _: Out) -> Result<(), Failure> {
    Ok(())
}
