"""Tests for examples.tau2.episode.network: certificates, proxies, and why a connection fails."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import httpx
import openai
import pytest
import requests

from examples.tau2.episode.network import (
    certificates,
    connection_problem,
    exempt_from_proxies,
    network_problems,
    proxy_of,
)
from tests.scripted import LLMServer, say

PROXIES = (
    {},
    {"HTTP_PROXY": "http://proxy:3128"},
    {"http_proxy": "", "HTTP_PROXY": "http://proxy:3128"},
    {"ALL_PROXY": "http://proxy:3128", "https_proxy": "other:8080"},
)
NO_PROXIES = (
    "",
    "*",
    "127.0.0.1, ::1,localhost",
    ".example.com",
    "example.com",
    "*.example.com",
    "10.0.0.0/8",
    "http://example.com",
    "example.com:8000",
    "127.0.0.1:8000",
)
URLS = (
    "http://127.0.0.1:8000/v1",
    "http://[::1]:8000/v1",
    "http://localhost/v1",
    "https://example.com/v1",
    "http://example.com:8000/v1",
    "https://a.example.com/v1",
    "http://10.0.0.3/v1",
)


def unset_proxies(monkeypatch):
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_PROXY".upper(), raising=False)


def error_of(url: str, timeout: float = 30.0) -> openai.APIConnectionError:
    """Return the error of a chat completion that gets no answer."""

    async def ask():
        async with openai.DefaultAioHttpClient() as http_client:
            client = openai.AsyncOpenAI(
                base_url=url, api_key="k", http_client=http_client, max_retries=0, timeout=timeout
            )
            await client.chat.completions.create(model="m", messages=[])

    with pytest.raises(openai.APIConnectionError) as raised:
        asyncio.run(ask())
    return raised.value


@pytest.mark.parametrize("no_proxy", NO_PROXIES)
@pytest.mark.parametrize("proxies", PROXIES)
def test_a_request_goes_to_a_proxy_if_httpx_sends_it_there(monkeypatch, proxies, no_proxy):
    unset_proxies(monkeypatch)
    environ = proxies | {"NO_PROXY": no_proxy}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with httpx.Client(verify=False) as client:
        for url in URLS:
            is_proxied = client._transport_for_url(httpx.URL(url)) is not client._transport
            assert bool(proxy_of(url, environ)) == is_proxied, url


def test_a_proxy_is_named_without_its_password():
    environ = {"HTTPS_PROXY": "http://me:secret@proxy:3128"}
    assert proxy_of("https://example.com/v1", environ) == "HTTPS_PROXY=http://proxy:3128"
    socks = proxy_of("http://example.com/v1", {"all_proxy": "socks5://proxy:1080"})
    assert socks == "all_proxy=socks5://proxy:1080 (SOCKS, which is not supported)"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SSL_CERT_FILE": "/gone/ca.pem"}, "SSL_CERT_FILE=/gone/ca.pem: no certificates"),
        ({"SSL_CERT_FILE": __file__}, "no certificate or crl found"),
        ({"SSL_CERT_DIR": "/gone"}, "SSL_CERT_DIR=/gone: no certificates can be read (there is no"),
        ({"REQUESTS_CA_BUNDLE": "/gone"}, "REQUESTS_CA_BUNDLE=/gone: no certificates"),
        ({"CURL_CA_BUNDLE": "/gone"}, "CURL_CA_BUNDLE=/gone: no certificates"),
        ({"HTTP_PROXY": "http://me:secret@proxy:port"}, "HTTP_PROXY is no URL of a proxy"),
        ({"https_proxy": "http://proxy:3128\n"}, "https_proxy is no URL of a proxy"),
        ({"ALL_PROXY": "socks://proxy:1080"}, "ALL_PROXY is no URL of a proxy"),
        ({"no_proxy": "localhost,[::1]"}, "no_proxy has '[::1]'"),
    ],
)
def test_a_variable_that_no_client_can_use_is_named(environ, words):
    [problem] = network_problems(environ)
    assert words in problem
    assert "secret" not in problem


def test_variables_that_clients_can_use_are_no_problem(tmp_path: Path):
    environ = {
        "SSL_CERT_FILE": ssl.get_default_verify_paths().cafile or "",
        "SSL_CERT_DIR": f"/gone:{tmp_path}",
        "REQUESTS_CA_BUNDLE": str(tmp_path),
        "HTTP_PROXY": "proxy:3128",
        "ALL_PROXY": "socks5h://proxy:1080",
        "NO_PROXY": "localhost, 127.0.0.1,::1,.example.com,10.0.0.0/8,",
    }
    assert not list(network_problems(environ))


def test_requests_to_exempted_hosts_go_to_no_proxy(monkeypatch):
    unset_proxies(monkeypatch)
    exempt_from_proxies(["127.0.0.1"])
    assert "NO_PROXY" not in os.environ
    # nothing listens there
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.setenv("no_proxy", "example.com")
    with LLMServer(lambda _: say("Hello.")) as server:
        url = f"{server.base_url}/models"
        with pytest.raises(requests.exceptions.ProxyError):
            requests.get(url)
        exempt_from_proxies(["127.0.0.1", "::1"])
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "example.com,127.0.0.1,::1"
        # AReaL uses both clients
        assert requests.get(url).ok and httpx.get(url).is_success


def test_certificates_that_are_gone_are_an_error(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/gone/ca.pem")
    certificates.cache_clear()
    with pytest.raises(ValueError, match="SSL_CERT_FILE=/gone/ca.pem"):
        certificates()


def test_a_refused_connection_is_called_refused(monkeypatch):
    unset_proxies(monkeypatch)
    with socket.socket() as nobody:
        # the port is taken, and nothing listens on it
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        assert "refused" in str(connection_problem(error_of(url)))
        monkeypatch.setenv("HTTP_PROXY", url)
        assert "refused" in str(connection_problem(error_of("http://example.com/v1")))


def test_a_host_that_is_not_known_is_called_not_found(monkeypatch):
    unset_proxies(monkeypatch)
    assert "is not found" in str(connection_problem(error_of("http://no-such-host.invalid/v1")))


def test_a_server_that_says_nothing_is_called_timed_out(monkeypatch):
    unset_proxies(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        assert connection_problem(error_of(url, timeout=0.2)) == "timed out"


def test_a_server_that_closes_the_connection_is_told(monkeypatch):
    unset_proxies(monkeypatch)
    with LLMServer(lambda _: None) as server:
        assert "closed the connection" in str(connection_problem(error_of(server.base_url)))
        https = server.base_url.replace("http", "https")
        assert "does not speak https" in str(connection_problem(error_of(https)))


def test_a_url_of_another_kind_is_told(monkeypatch):
    unset_proxies(monkeypatch)
    assert "http://" in str(connection_problem(error_of("localhost:8000/v1")))


def test_an_error_of_another_kind_has_no_problem_of_connections():
    assert connection_problem(ValueError("something else")) is None
