//! What a client may ask for, once it is in.

use std::sync::Arc;

use contract::Secret;
use serde_json::{Value, json};

use super::{
    hub::{Handshake, Held, Socket},
    model::{News, room_name, room_user},
};
use crate::{
    app::App,
    condition,
    error::{ApiError, Detail},
    extract::{CurrentUser, Permission, UserId, permissions::ReadUsers},
    middleware::{Credential, recognize},
    tenancy::TenantSnapshot,
};

/// Does what an event asks for, and gives what its acknowledgement says.
pub async fn answer(app: &App, socket: &Arc<Socket>, event: &str, argument: &Value) -> Result<Value, ApiError> {
    match event {
        "join-room" => join_room(app, socket, argument).await,
        "leave-room" => leave_room(socket, argument),
        "authenticate" => authenticate(app, socket, argument).await,
        _ => Err(ApiError::not_found("There is no such event: send join-room, leave-room or authenticate")
            .with_code("UNKNOWN_EVENT")),
    }
}

/// Lets a user in by an access token, as `Authorization: Bearer` would: the same checks, at this moment.
pub async fn enter(app: &App, handshake: &Handshake, token: &str) -> Result<(Arc<CurrentUser>, Held), ApiError> {
    let tenant = tenant_of(app, handshake)?;
    let user =
        recognize(app, &tenant, &handshake.scope, &handshake.method, &handshake.headers, Credential::given(token))
            .await?;
    user.person()?;
    user.whole()?;
    let held = Held { token: Secret::new(token), session: user.session };
    Ok((user, held))
}

/// Who asks by a socket, with the role bindings whose conditions its handshake meets at this moment.
pub fn meet(app: &App, handshake: &Handshake, user: &mut CurrentUser) {
    let Handshake { scope, method, headers, .. } = handshake;
    let facts = |user: &CurrentUser| condition::facts(method, scope.path(), scope.client_ip(), headers, Some(user));
    user.meet(app.clock.now(), facts);
}

/// Whether somebody may hear of other users: what `GET /users/{id}` asks for.
pub fn may_watch(user: &CurrentUser) -> bool {
    user.may(ReadUsers::RESOURCE, ReadUsers::VERB)
}

async fn join_room(app: &App, socket: &Arc<Socket>, argument: &Value) -> Result<Value, ApiError> {
    let user = room(argument)?;
    if user != socket.owner.user {
        // Nothing that was known when the socket was opened counts.
        let (me, _) = enter(app, &socket.handshake, socket.held().token.expose()).await?;
        if !may_watch(&me) {
            return Err(ApiError::forbidden("Insufficient permissions"));
        }
        let user = app.users.find(socket.owner.tenant, user).await?;
        socket.enter(user.id, News::of(&user))?;
    }
    Ok(json!({ "room": room_name(user) }))
}

fn leave_room(socket: &Socket, argument: &Value) -> Result<Value, ApiError> {
    let user = room(argument)?;
    if user == socket.owner.user {
        return Err(ApiError::conflict("A connection stays in the room of its own user"));
    }
    socket.leave(user);
    Ok(json!({ "room": room_name(user) }))
}

/// Goes on by a new token: of the same user, so that who listens at the other end is still the same.
async fn authenticate(app: &App, socket: &Arc<Socket>, argument: &Value) -> Result<Value, ApiError> {
    let (me, held) = enter(app, &socket.handshake, token(argument).ok_or_else(ApiError::unauthenticated)?).await?;
    if me.id != socket.owner.user {
        return Err(ApiError::forbidden("The token is another user's: open a connection for them"));
    }
    socket.renew(held);
    Ok(json!({}))
}

/// `{"token": "…"}`, or the token alone.
pub fn token(given: &Value) -> Option<&str> {
    given.as_str().or_else(|| given.get("token")?.as_str()).filter(|token| !token.is_empty())
}

fn room(argument: &Value) -> Result<UserId, ApiError> {
    argument.as_str().and_then(room_user).ok_or_else(|| {
        let cure = "use `user:<id>` with the id of a user";
        ApiError::validation(vec![Detail::new("room", "UNKNOWN_ROOM", cure)])
    })
}

/// The tenant as it is now.
pub fn tenant_of(app: &App, handshake: &Handshake) -> Result<Arc<TenantSnapshot>, ApiError> {
    let tenant = app.tenants.by_name(handshake.tenant.as_str()).filter(|tenant| tenant.id == handshake.tenant_id);
    let served = tenant.filter(|tenant| !tenant.is_suspended());
    served.ok_or_else(|| ApiError::not_found("The tenant is not served any more"))
}
