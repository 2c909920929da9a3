//! The passwords that a running Redis takes, changed without a restart: a server that starts reads its access list, one
//! that runs is told.

use redis::{Client, RedisError};

/// What could not be told.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error("the access list must have one line, `user <name> <rules>`")]
    Malformed,
}

/// Gives the list's user exactly the list's passwords and rules, in one command; sessions that are open go on.
pub async fn apply(url: &str, list: &str) -> Result<(), UsersError> {
    let words: Vec<_> = list.split_whitespace().collect();
    let ["user", name, rules @ ..] = words.as_slice() else { return Err(UsersError::Malformed) };
    if rules.is_empty() || list.trim().lines().count() != 1 {
        return Err(UsersError::Malformed);
    }
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg(name).arg("resetpass").arg(rules);
    command.query_async::<()>(&mut connection).await?;
    tracing::info!(user = name, passwords = rules.iter().filter(|rule| rule.starts_with('#')).count(), "told Redis");
    Ok(())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::testing::redis_url;

    fn list(user: &str, passwords: &[&str]) -> String {
        let hashes: Vec<_> =
            passwords.iter().map(|password| format!("#{} ", hex::encode(Sha256::digest(password)))).collect();
        format!("user {user} on {}~* &* +@all\n", hashes.concat())
    }

    async fn signs_in(user: &str, password: &str) -> bool {
        let mut url = url::Url::parse(&redis_url()).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.is_ok()
    }

    #[tokio::test]
    async fn both_passwords_work_until_the_list_has_one() {
        let user = format!("user-{}", uuid::Uuid::now_v7().simple());
        apply(&redis_url(), &list(&user, &["old", "new"])).await.unwrap();
        assert!(signs_in(&user, "old").await && signs_in(&user, "new").await);
        apply(&redis_url(), &list(&user, &["new"])).await.unwrap();
        assert!(!signs_in(&user, "old").await && signs_in(&user, "new").await);
        let mut connection = Client::open(redis_url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        redis::cmd("ACL").arg("DELUSER").arg(&user).query_async::<()>(&mut connection).await.unwrap();
    }

    #[tokio::test]
    async fn a_list_of_another_shape_is_refused() {
        for malformed in ["", "user", "user default", "users x on", "user a on\nuser b on"] {
            assert!(
                matches!(apply("redis://127.0.0.1:1", malformed).await, Err(UsersError::Malformed)),
                "{malformed:?}"
            );
        }
    }
}
