//! Who is let in, when several knock at once, knock too often, or the policy changes in between.

use super::{KEY, Place};
use crate::ipc::porch::{Attempt, Credential};
use crate::keeper::admission::{Outcome, Passed, attempt};
use crate::keeper::reload;

fn with_key(key: Option<&str>) -> Attempt {
    let key: russh::keys::PublicKey = key.unwrap_or(KEY).parse().unwrap();
    Attempt { user: "partner".to_owned(), credential: Credential::Key { key: key.to_bytes().unwrap() } }
}

#[tokio::test]
async fn logins_at_once_do_not_exceed_the_users_sessions() {
    let mut policies = super::POLICIES.to_vec();
    let limited = format!("{}[limits]\nsessions = 1\n", policies[0].1);
    policies[0].1 = &limited;
    let place = Place::with(&policies);
    let (login, address) = (with_key(None), [127, 0, 0, 1].into());
    let (mut one, mut two) = (Passed::default(), Passed::default());
    let (one, two) = tokio::join!(
        attempt(place.keeper(), &login, address, &mut one),
        attempt(place.keeper(), &login, address, &mut two),
    );
    let admitted = [&one, &two].iter().filter(|outcome| matches!(outcome, Outcome::Admit { .. })).count();
    assert_eq!(admitted, 1);
    drop((one, two));
    let again = attempt(place.keeper(), &login, address, &mut Passed::default()).await;
    assert!(matches!(again, Outcome::Admit { .. }), "a place that was not taken is free again");
}

#[tokio::test]
async fn a_connection_fails_as_often_as_the_settings_say_whatever_names_it_gives() {
    let place = Place::new();
    let address = [127, 0, 0, 1].into();
    let mut passed = Passed::default();
    for n in 0..place.keeper().settings.limits.login_attempts {
        let wrong =
            Attempt { user: format!("name{n}"), credential: Credential::Password { password: "no".to_owned() } };
        assert!(matches!(attempt(place.keeper(), &wrong, address, &mut passed).await, Outcome::Answer(_)));
    }
    assert!(matches!(attempt(place.keeper(), &with_key(None), address, &mut passed).await, Outcome::TooMany));
}

#[tokio::test]
async fn who_is_no_longer_in_the_policy_is_barred_though_admitted_before() {
    let place = Place::new();
    let client = place.client("partner");
    place.set_policies(&super::POLICIES[1..]);
    reload::reload(place.keeper(), "a test", None).await.unwrap();
    assert!(reload::why_barred(&place.keeper().policy(), &client).is_some());
    assert!(reload::why_barred(&place.keeper().policy(), &place.client("archive")).unwrap().contains("password"));
}
