//! How a handler becomes a route, and says what it is.

use axum::{handler::Handler, routing::MethodRouter};
use utoipa::{
    __dev::{SchemaReferences, Tags},
    Path,
    openapi::{RefOr, path::Operation, path::Paths, schema::Schema},
};
use utoipa_axum::{PathItemExt as _, router::UtoipaMethodRouter};

use crate::app::App;

/// The routes of handlers that share a path, by what `#[utoipa::path]` says of each.
#[derive(Default)]
pub struct Routes {
    schemas: Vec<(String, RefOr<Schema>)>,
    paths: Paths,
    methods: MethodRouter<App>,
}

impl Routes {
    /// Adds `handler`, whose description is `P`.
    #[expect(clippy::needless_pass_by_value, reason = "as routers take handlers")]
    #[must_use]
    pub fn with<P, H, T>(mut self, handler: H) -> Self
    where
        P: Path + SchemaReferences + Tags<'static>,
        H: Handler<T, App>,
        T: 'static,
    {
        let methods = P::methods();
        for method in &methods {
            self.methods = self.methods.on(method.to_method_filter(), handler.clone());
        }
        let operation = describe::<P>(&mut self.schemas);
        self.paths.add_path_operation(P::path(), methods, operation);
        self
    }

    pub fn into_parts(self) -> UtoipaMethodRouter<App> {
        (self.schemas, self.paths, self.methods)
    }
}

/// What an operation says of itself, and the schemas that it speaks of. Only where [the document](super::document) is
/// made: a release carries it made.
fn describe<P>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> Operation
where
    P: Path + SchemaReferences + Tags<'static>,
{
    if cfg!(debug_assertions) {
        P::schemas(schemas);
        let mut operation = P::operation();
        operation.tags = Some(P::tags().into_iter().map(str::to_owned).collect());
        operation
    } else {
        Operation::new()
    }
}

/// Routes of handlers under `#[utoipa::path]`; of several, all at one path.
macro_rules! routes {
    ($($handler:ident),+ $(,)?) => {
        utoipa_axum::paste! {
            $crate::openapi::Routes::default()$(.with::<[<__path_ $handler>], _, _>($handler))+.into_parts()
        }
    };
}
pub(crate) use routes;
