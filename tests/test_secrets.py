import pytest

from nnjit.runtime.secrets import hide, without_passwords

WORD = "hush-hush.7"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://lab:{}@host/db",
        "https://lab:{}@host:5000/x",
        "https://{}@host:5000",
        "postgresql://host/db?user=lab&password={}",
        "mysql://host/db?passwd={}&x=1",
        "postgresql://host/db?sslpassword={}",
        "https://host/?token={}",
        "https://host/?access_token={}#part",
        "s3://bucket/x?X-Amz-Signature={}",
        "mssql://host?driver=x;PWD={};UID=lab",
        "Driver=x;Server=host;Password={};",
        "mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3D{}%3BUID%3Dlab",
        "host=db user=lab password={} dbname=x",
        "tracking.uri='host=db password={}'",
        "AWS_SECRET_ACCESS_KEY={}",
        "cannot open https://{}@host: no answer from https://{}@host",
    ],
)
def test_secrets_are_masked(text):
    shown = without_passwords({"a": [text.replace("{}", WORD)]})["a"][0]
    assert WORD not in shown
    assert "***" in shown
    assert len(shown) <= len(text) + 6  # and nothing beside them


@pytest.mark.parametrize(
    "text",
    [
        "model.layers.0.hidden_size=3",
        "sqlite:////home/me/pass/word=1/mlflow.db",
        "postgresql://lab@host/db?sslmode=require",
        "http://127.0.0.1:5000/#/experiments/1?key=1",
        "dataset.root=music/tokens keys=3 monkey=5",
        "name=a;b&c",
        "monitor=val/accuracy",
    ],
)
def test_what_is_no_secret_stays(text):
    assert without_passwords(text) == text


def test_values_of_variables_that_are_named_like_secrets(monkeypatch, tmp_path):
    for name in ("SECRET", "PGPASSWORD", "MY_TOKEN", "SOME_API_KEY"):
        monkeypatch.setenv(name, f"{WORD}-{name}")
        assert without_passwords(f"name=run {WORD}-{name}") == "name=run ***"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsely")
    assert without_passwords("falsely") == "falsely"
    (tmp_path / "config.yaml").write_text(f"name: {WORD}-SECRET\nepochs: 3\n")
    hide(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "name: ***\nepochs: 3\n"
