"""The realm for Keycloak gives the claims that the server's settings name, and no user can choose a clinic."""

import json
import re
import tomllib

import pytest
from emulated import INFRA

AUTH = tomllib.loads((INFRA.parent / "src" / "config.default.toml").read_text())["auth"]
REALM = json.loads((INFRA / "keycloak" / "dental-realm.json").read_text())
CLIENTS = {client["clientId"]: client for client in REALM["clients"]}
ROLES = {role["name"]: role for role in REALM["roles"]["realm"]}
RIGHTS = {role for name, roles in AUTH.items() if name.endswith("_roles") for role in roles}


def mappers(client, kind):
    return [mapper["config"] for mapper in CLIENTS[client]["protocolMappers"] if mapper["protocolMapper"] == kind]


def test_every_role_of_a_right_is_there():
    assert RIGHTS <= set(ROLES)


def test_the_roles_of_people_are_made_of_rights():
    people = {name: set(role["composites"]["realm"]) for name, role in ROLES.items() if role.get("composite")}
    assert set(people) == {"dentist", "staff", "administrator", "device"}
    assert all(rights and rights <= RIGHTS for rights in people.values())
    assert people["administrator"] == RIGHTS
    assert people["staff"] < people["dentist"] < people["administrator"]


@pytest.mark.parametrize("client", CLIENTS)
def test_access_tokens_have_audience_and_clinic(client):
    (audience,) = mappers(client, "oidc-audience-mapper")
    assert audience["included.custom.audience"] in AUTH["audiences"]
    assert (audience["access.token.claim"], audience["id.token.claim"]) == ("true", "false")
    clinics = mappers(client, "oidc-usermodel-attribute-mapper") + mappers(client, "oidc-hardcoded-claim-mapper")
    (clinic,) = clinics
    assert clinic["claim.name"] == AUTH["tenant_claim"]
    assert clinic["access.token.claim"] == "true"


def test_roles_come_in_the_claim_of_the_settings():
    # The scope `roles`, which Keycloak makes if the file lists no scopes, has the mapper of `realm_access.roles`.
    assert AUTH["roles_claim"] == "realm_access.roles"
    assert "clientScopes" not in REALM
    assert all("defaultClientScopes" not in client for client in CLIENTS.values())


def test_pages_sign_in_by_code_and_pkce_only():
    web = CLIENTS["cuspid-web"]
    assert web["publicClient"] and web["standardFlowEnabled"]
    assert not (web["implicitFlowEnabled"] or web["directAccessGrantsEnabled"] or web["serviceAccountsEnabled"])
    assert web["attributes"]["pkce.code.challenge.method"] == "S256"
    assert not any("*" in uri for uri in web["redirectUris"] + web["webOrigins"])
    assert web["clientId"] not in AUTH["audiences"]


def test_only_an_administrator_chooses_the_clinic_of_a_user():
    (component,) = REALM["components"]["org.keycloak.userprofile.UserProfileProvider"]
    (profile,) = component["config"]["kc.user.profile.config"]
    attributes = {attribute["name"]: attribute for attribute in json.loads(profile)["attributes"]}
    # Keycloak refuses a profile without these.
    assert {"username", "email", "firstName", "lastName"} < set(attributes)
    clinic = attributes["clinicId"]
    assert clinic["permissions"]["edit"] == ["admin"]
    pattern = re.compile(clinic["validations"]["pattern"]["pattern"])
    for name, is_tenant in [("clinic-a", True), ("a" * 64, True), ("a" * 65, False), ("Clinic", False), ("", False), ("a/b", False)]:
        assert bool(pattern.search(name)) == is_tenant, name


def test_nothing_secret_is_in_the_file():
    text = json.dumps(REALM)
    assert "secret" not in text.replace("client-secret", "")
    assert '"credentials"' not in text
