//! The room's SQL.

use contract::{RoleName, Secret};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::model::{FullName, Sort, UserFilter, UsersError};
use crate::{
    extract::{Page, User, UserId},
    features::{auth::Cost, factors},
    infra::TenantTx,
};

/// A row of `auth.users` with the user's roles, without their secret.
pub struct UserRow {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub role: String,
    pub groups: Vec<String>,
    pub email_verified: bool,
    pub is_active: bool,
    pub last_login_at: Option<jiff_sqlx::Timestamp>,
    pub created_at: jiff_sqlx::Timestamp,
    pub updated_at: jiff_sqlx::Timestamp,
    pub assigned: Vec<String>,
}

impl TryFrom<UserRow> for User {
    type Error = sqlx::Error;

    fn try_from(row: UserRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: UserId(row.id),
            email: row.email,
            name: row.name,
            first_name: row.first_name,
            last_name: row.last_name,
            role: role(&row.role)?,
            assigned_roles: row.assigned.iter().map(|name| role(name)).collect::<Result<_, _>>()?,
            groups: row.groups,
            email_verified: row.email_verified,
            is_active: row.is_active,
            last_login_at: row.last_login_at.map(jiff_sqlx::Timestamp::to_jiff),
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn role(name: &str) -> Result<RoleName, sqlx::Error> {
    RoleName::parse(name).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn taken_or(error: sqlx::Error) -> UsersError {
    match error.as_database_error().and_then(|e| e.constraint()) {
        Some("users_email_key") => UsersError::EmailTaken,
        _ => error.into(),
    }
}

/// Adds a user; `password_hash` is `None` for one who is to choose a password first.
pub async fn insert_user(
    tx: &mut TenantTx,
    email: &str,
    name: &FullName,
    password_hash: Option<&str>,
    role: &str,
    now: Timestamp,
) -> Result<User, UsersError> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    let row = query_as!(
        UserRow,
        r#"INSERT INTO auth.users
             (tenant_id, id, email, name, first_name, last_name, password_hash, role, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
         RETURNING id, email, name, first_name, last_name, role, groups, email_verified, is_active, last_login_at,
                   created_at, updated_at, '{}'::text[] AS "assigned!""#,
        tenant,
        id,
        email,
        name.name,
        name.first,
        name.last,
        password_hash,
        role,
        now.to_sqlx()
    )
    .fetch_one(tx.conn())
    .await
    .map_err(taken_or)?;
    Ok(row.try_into()?)
}

/// Adds a user of another system, unless one with this address exists.
pub async fn import_user(
    tx: &mut TenantTx,
    new: &super::import::Imported,
    now: Timestamp,
) -> Result<Option<UserId>, sqlx::Error> {
    let (tenant, id) = (tx.tenant().as_uuid(), Uuid::now_v7());
    let added = query_scalar!(
        "INSERT INTO auth.users
           (tenant_id, id, email, name, first_name, last_name, password_hash, role, email_verified, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
         ON CONFLICT (tenant_id, email) DO NOTHING
         RETURNING id",
        tenant,
        id,
        new.email,
        new.name.name,
        new.name.first,
        new.name.last,
        new.password_hash.as_ref().map(Secret::expose),
        new.role.as_str(),
        new.email_verified,
        now.to_sqlx()
    )
    .fetch_optional(tx.conn())
    .await?;
    Ok(added.map(UserId))
}

/// Accounts that exist; deleted ones do not count.
pub async fn count_users(tx: &mut TenantTx, filter: &UserFilter) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!(
        r#"SELECT count(*) AS "count!" FROM auth.users
         WHERE tenant_id = $1 AND deleted_at IS NULL
           AND ($2::text IS NULL OR position(lower($2) IN email) > 0)
           AND ($3::text IS NULL OR role = $3)
           AND ($4::boolean IS NULL OR is_active = $4)"#,
        tenant,
        filter.email,
        filter.role.as_ref().map(RoleName::as_str),
        filter.is_active
    )
    .fetch_one(tx.conn())
    .await
}

pub async fn find_user(tx: &mut TenantTx, id: UserId) -> Result<Option<User>, sqlx::Error> {
    Ok(find_users(tx, &[id]).await?.pop())
}

/// Those of these users that there are.
pub async fn find_users(tx: &mut TenantTx, ids: &[UserId]) -> Result<Vec<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let rows = query_as!(
        UserRow,
        r#"SELECT u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at,
                ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id
                      ORDER BY r.role) AS "assigned!"
         FROM auth.users u WHERE u.tenant_id = $1 AND u.id = ANY($2) AND u.deleted_at IS NULL"#,
        tenant,
        &ids
    )
    .fetch_all(tx.conn())
    .await?;
    rows.into_iter().map(User::try_from).collect()
}

/// Holds a user for this transaction, so that two changes of one account come one after the other.
pub async fn lock_user(tx: &mut TenantTx, id: UserId) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("SELECT id FROM auth.users WHERE tenant_id = $1 AND id = $2 FOR UPDATE", tenant, id.0)
        .fetch_optional(tx.conn())
        .await?;
    Ok(())
}

/// As [`lock_user`], by the address; one statement whether there is such a user or not.
pub async fn lock_by_email(tx: &mut TenantTx, email: &str) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("SELECT id FROM auth.users WHERE tenant_id = $1 AND email = $2 FOR UPDATE", tenant, email)
        .fetch_optional(tx.conn())
        .await?;
    Ok(())
}

/// The user with this address and their password's hash. One statement whether there is such a user or not: a second one for
/// those who exist would show in the time of the answer.
pub async fn find_by_email(tx: &mut TenantTx, email: &str) -> Result<Option<(User, Option<String>)>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let found = query!(
        r#"SELECT u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at, u.password_hash,
                ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id
                      ORDER BY r.role) AS "assigned!"
         FROM auth.users u WHERE u.tenant_id = $1 AND u.email = $2 AND u.deleted_at IS NULL"#,
        tenant,
        email
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = found else { return Ok(None) };
    let user = User::try_from(UserRow {
        id: row.id,
        email: row.email,
        name: row.name,
        first_name: row.first_name,
        last_name: row.last_name,
        role: row.role,
        groups: row.groups,
        email_verified: row.email_verified,
        is_active: row.is_active,
        last_login_at: row.last_login_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        assigned: row.assigned,
    })?;
    Ok(Some((user, row.password_hash)))
}

/// What it costs to check the passwords of a tenant's accounts, each cost once: an index leads from one to the next.
pub async fn password_costs(tx: &mut TenantTx) -> Result<Vec<Cost>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let costs = query_scalar!(
        r#"WITH RECURSIVE costs AS (
             (SELECT password_cost FROM auth.users WHERE tenant_id = $1 AND password_cost IS NOT NULL
              ORDER BY password_cost LIMIT 1)
             UNION ALL
             SELECT (SELECT u.password_cost FROM auth.users u
                     WHERE u.tenant_id = $1 AND u.password_cost > costs.password_cost
                     ORDER BY u.password_cost LIMIT 1)
             FROM costs WHERE costs.password_cost IS NOT NULL)
           SELECT password_cost AS "cost!" FROM costs WHERE password_cost IS NOT NULL"#,
        tenant
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(costs.into_iter().map(Cost::stored).collect())
}

pub async fn password_hash(tx: &mut TenantTx, id: UserId) -> Result<Option<String>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_scalar!("SELECT password_hash FROM auth.users WHERE tenant_id = $1 AND id = $2", tenant, id.0)
        .fetch_optional(tx.conn())
        .await
        .map(Option::flatten)
}

/// A page of users, newest first: the way that an index leads along.
pub async fn list_newest(tx: &mut TenantTx, page: &Page, filter: &UserFilter) -> Result<Vec<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let (at, id) = page.after.unzip();
    query_as!(
        UserRow,
        r#"SELECT u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at,
                ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id
                      ORDER BY r.role) AS "assigned!"
         FROM auth.users u
         WHERE u.tenant_id = $1 AND u.deleted_at IS NULL
           AND ($2::timestamptz IS NULL OR (u.created_at, u.id) < ($2, $3))
           AND ($4::text IS NULL OR position(lower($4) IN u.email) > 0)
           AND ($5::text IS NULL OR u.role = $5)
           AND ($6::boolean IS NULL OR u.is_active = $6)
         ORDER BY u.created_at DESC, u.id DESC
         LIMIT $7 OFFSET $8"#,
        tenant,
        at.map(ToSqlx::to_sqlx) as Option<jiff_sqlx::Timestamp>,
        id,
        filter.email,
        filter.role.as_ref().map(RoleName::as_str),
        filter.is_active,
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(User::try_from)
    .collect()
}

/// A page of users in another order.
pub async fn list_sorted(
    tx: &mut TenantTx,
    page: &Page,
    filter: &UserFilter,
    sort: Sort,
) -> Result<Vec<User>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query_as!(
        UserRow,
        r#"SELECT u.id, u.email, u.name, u.first_name, u.last_name, u.role, u.groups, u.email_verified, u.is_active,
                u.last_login_at, u.created_at, u.updated_at,
                ARRAY(SELECT r.role FROM auth.user_roles r WHERE r.tenant_id = u.tenant_id AND r.user_id = u.id
                      ORDER BY r.role) AS "assigned!"
         FROM auth.users u
         WHERE u.tenant_id = $1 AND u.deleted_at IS NULL
           AND ($2::text IS NULL OR position(lower($2) IN u.email) > 0)
           AND ($3::text IS NULL OR u.role = $3)
           AND ($4::boolean IS NULL OR u.is_active = $4)
         ORDER BY CASE WHEN $5 = 'name' THEN lower(u.name) END, CASE WHEN $5 = '-name' THEN lower(u.name) END DESC,
                  CASE WHEN $5 = '-createdAt' THEN u.created_at END DESC, u.created_at, u.id
         LIMIT $6 OFFSET $7"#,
        tenant,
        filter.email,
        filter.role.as_ref().map(RoleName::as_str),
        filter.is_active,
        sort.as_str(),
        page.fetch(),
        i64::from(page.offset)
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(User::try_from)
    .collect()
}

pub async fn update_name(tx: &mut TenantTx, id: UserId, name: &FullName, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users SET name = $3, first_name = $4, last_name = $5, updated_at = $6
         WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0,
        name.name,
        name.first,
        name.last,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Gives another address, which nobody has verified yet.
pub async fn update_email(tx: &mut TenantTx, id: UserId, email: &str, now: Timestamp) -> Result<(), UsersError> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users SET email = $3, email_verified = false, updated_at = $4 WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0,
        email,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await
    .map_err(taken_or)?;
    Ok(())
}

/// Notes that the user's address reached them.
pub async fn mark_verified(tx: &mut TenantTx, id: UserId, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users SET email_verified = true, updated_at = $3
         WHERE tenant_id = $1 AND id = $2 AND NOT email_verified",
        tenant,
        id.0,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn update_role(tx: &mut TenantTx, id: UserId, role: &RoleName, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users SET role = $3, updated_at = $4 WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0,
        role.as_str(),
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn update_active(tx: &mut TenantTx, id: UserId, active: bool, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users SET is_active = $3, updated_at = $4 WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0,
        active,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub async fn update_password_hash(tx: &mut TenantTx, id: UserId, hash: &str) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("UPDATE auth.users SET password_hash = $3 WHERE tenant_id = $1 AND id = $2", tenant, id.0, hash)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub async fn update_last_login(tx: &mut TenantTx, id: UserId, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!("UPDATE auth.users SET last_login_at = $3 WHERE tenant_id = $1 AND id = $2", tenant, id.0, now.to_sqlx())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Leaves the row, for what refers to it, and nothing in it that tells who it was.
pub async fn anonymise(tx: &mut TenantTx, id: UserId, now: Timestamp) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    query!(
        "UPDATE auth.users
         SET email = id::text || '@deleted.invalid', name = 'Deleted user', first_name = NULL, last_name = NULL,
             password_hash = NULL, role = 'GUEST', groups = '{}', email_verified = false, is_active = false,
             last_login_at = NULL, updated_at = $3, deleted_at = $3
         WHERE tenant_id = $1 AND id = $2",
        tenant,
        id.0,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    query!("DELETE FROM auth.user_roles WHERE tenant_id = $1 AND user_id = $2", tenant, id.0)
        .execute(tx.conn())
        .await?;
    factors::forget(tx, id).await?;
    query!("DELETE FROM auth.identities WHERE tenant_id = $1 AND user_id = $2", tenant, id.0)
        .execute(tx.conn())
        .await?;
    query!("DELETE FROM auth.sessions WHERE tenant_id = $1 AND user_id = $2", tenant, id.0).execute(tx.conn()).await?;
    Ok(())
}

/// When a further role was given. False where the user had it already.
pub async fn insert_role(
    tx: &mut TenantTx,
    user: UserId,
    role: &RoleName,
    by: UserId,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "INSERT INTO auth.user_roles (tenant_id, user_id, role, assigned_by, assigned_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        tenant,
        user.0,
        role.as_str(),
        by.0,
        now.to_sqlx()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a further role. False where the user did not have it.
pub async fn delete_role(tx: &mut TenantTx, user: UserId, role: &RoleName) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let done = query!(
        "DELETE FROM auth.user_roles WHERE tenant_id = $1 AND user_id = $2 AND role = $3",
        tenant,
        user.0,
        role.as_str()
    )
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The further roles of a user, with the time when each was given.
pub async fn roles_of(tx: &mut TenantTx, user: UserId) -> Result<Vec<(RoleName, Timestamp)>, sqlx::Error> {
    let tenant = tx.tenant().as_uuid();
    let rows = query!(
        "SELECT role, assigned_at FROM auth.user_roles WHERE tenant_id = $1 AND user_id = $2 ORDER BY role",
        tenant,
        user.0
    )
    .fetch_all(tx.conn())
    .await?;
    rows.into_iter().map(|row| Ok((role(&row.role)?, row.assigned_at.to_jiff()))).collect()
}
