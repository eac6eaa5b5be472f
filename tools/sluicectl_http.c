/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the control plane over its Unix socket. */
#include "sluicectl.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONNECT_SECONDS 5L
#define ANSWER_SECONDS 120L /* a change is answered when it has ended */
#define BESIDE_SECONDS 2L

struct answer {
	char *text;
	size_t bytes;
	/* Of an answer that is handed on as it comes; NULL: it is kept. */
	bool (*take)(void *user, const char *bytes, size_t count);
	void *user;
	bool ended; /* take() wants no more */
};

static CURL *curl; /* kept, so that a refreshing view uses one connection */

static size_t answer_append(char *data, size_t size, size_t count, void *user)
{
	struct answer *answer = user;
	size_t bytes = size * count;
	long status = 0;

	/* What is refused is a document, whatever was asked for. */
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (answer->take && status >= 200 && status <= 299) {
		answer->ended = !answer->take(answer->user, data, bytes);
		return answer->ended ? 0 : bytes;
	}
	char *text = realloc(answer->text, answer->bytes + bytes + 1);
	if (!text)
		return 0;
	memcpy(text + answer->bytes, data, bytes);
	answer->text = text;
	answer->bytes += bytes;
	text[answer->bytes] = '\0';
	return bytes;
}

static enum ctl_exit say_unreachable(const char *socket_path, CURLcode code, long os_error)
{
	if (os_error == EACCES || os_error == EPERM) {
		fprintf(stderr,
			"sluicectl: %s: permission denied: be root or a member of the group that `api.group` names\n",
			socket_path);
		return CTL_UNREACHABLE;
	}
	fprintf(stderr,
		"sluicectl: no control plane answers at %s (%s): start sluice-controlplane, or name its directory with "
		"--runtime-dir\n",
		socket_path, os_error ? strerror((int)os_error) : curl_easy_strerror(code));
	return CTL_UNREACHABLE;
}

/* "error", "lines" of a configuration and "remedy", as the API gave them. */
static void say_refused(const json_t *document, long status)
{
	const json_t *lines = json_object_get(document, "lines");
	const char *error = text_of(document, "error"), *remedy = text_of(document, "remedy");
	size_t i;
	json_t *line;

	if (json_array_size(lines) == 0)
		fprintf(stderr, "sluicectl: %s\n", error[0] ? error : "refused without a word");
	json_array_foreach(lines, i, line)
	{
		fprintf(stderr, "%s\n", json_string_value(line));
	}
	if (!error[0])
		fprintf(stderr, "sluicectl: HTTP status %ld\n", status);
	if (remedy[0])
		fprintf(stderr, "sluicectl: %s\n", remedy);
}

static enum ctl_exit answer_read(const struct answer *answer, long status, json_t **ret)
{
	json_error_t error;
	json_t *document = answer->text ? json_loadb(answer->text, answer->bytes, JSON_DECODE_ANY, &error) : NULL;

	if (!document) {
		fprintf(
		    stderr,
		    "sluicectl: the answer (HTTP status %ld) is no JSON: is this the socket of sluice-controlplane?\n",
		    status);
		return CTL_FAILED;
	}
	if (status < 200 || status > 299) {
		say_refused(document, status);
		json_decref(document);
		return CTL_FAILED;
	}
	*ret = document;
	return CTL_OK;
}

static void handle_prepare(CURL *handle, const char *socket_path, const char *url)
{
	curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(handle, CURLOPT_URL, url);
	curl_easy_setopt(handle, CURLOPT_PROXY, "");
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
}

/* False: it has been said that it is too long (libcurl would speak of a host name). */
static bool make_socket_path(const struct ctl *ctl, char *path, size_t room)
{
	const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if ((size_t)snprintf(path, room, "%s/api.sock", ctl->runtime_dir) <= most)
		return true;
	fprintf(stderr, "sluicectl: --runtime-dir %s: too long, %zu characters are the most\n", ctl->runtime_dir,
		most - strlen("/api.sock"));
	return false;
}

/* While nothing comes: whether to go on. */
static int answer_waits(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct answer *answer = user;

	(void)a, (void)b, (void)c, (void)d;
	answer->ended = answer->ended || !answer->take(answer->user, NULL, 0);
	return answer->ended;
}

/* body: JSON text for POST; NULL for GET. stream: NULL, or whose take() gets the answer instead of *ret. */
static enum ctl_exit ask(const struct ctl *ctl, const char *target, const char *body, const struct answer *stream,
			 json_t **ret)
{
	char socket_path[4096], url[8192];
	struct answer answer = stream ? *stream : (struct answer){0};
	struct curl_slist *headers = NULL;
	enum ctl_exit result;
	long status = 0, os_error = 0;

	if (!curl && !(curl = curl_easy_init())) {
		fprintf(stderr, "sluicectl: out of memory\n");
		return CTL_FAILED;
	}
	if (!make_socket_path(ctl, socket_path, sizeof(socket_path)))
		return CTL_USAGE;
	snprintf(url, sizeof(url), "http://localhost%s", target);
	curl_easy_reset(curl);
	handle_prepare(curl, socket_path, url);
	if (stream) {
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, answer_waits);
		curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &answer);
	} else {
		curl_easy_setopt(curl, CURLOPT_TIMEOUT, ANSWER_SECONDS);
	}
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_append);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
	if (body) {
		headers = curl_slist_append(NULL, "Content-Type: application/json");
		headers = curl_slist_append(headers, "Expect:"); /* no second round trip for a long body */
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	}
	CURLcode code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_error);
	if (code == CURLE_COULDNT_CONNECT) {
		result = say_unreachable(socket_path, code, os_error);
	} else if (answer.ended) {
		result = CTL_OK;
	} else if (code != CURLE_OK) {
		fprintf(stderr, "sluicectl: %s: %s: see `sluicectl status` and the control plane's log\n", socket_path,
			curl_easy_strerror(code));
		result = CTL_UNREACHABLE;
	} else if (stream && status >= 200 && status <= 299) {
		result = CTL_OK;
	} else {
		result = answer_read(&answer, status, ret);
		if (stream && status == 400)
			result = CTL_USAGE;
	}
	curl_slist_free_all(headers);
	free(answer.text);
	return result;
}

enum ctl_exit ctl_get(const struct ctl *ctl, const char *target, json_t **ret)
{
	return ask(ctl, target, NULL, NULL, ret);
}

enum ctl_exit ctl_post(const struct ctl *ctl, const char *target, json_t *body, json_t **ret)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : strdup("{}");
	json_decref(body);
	if (!text) {
		fprintf(stderr, "sluicectl: out of memory\n");
		return CTL_FAILED;
	}
	enum ctl_exit result = ask(ctl, target, text, NULL, ret);
	free(text);
	return result;
}

enum ctl_exit ctl_post_stream(const struct ctl *ctl, const char *target, json_t *body,
			      bool (*take)(void *user, const char *bytes, size_t count), void *user)
{
	const struct answer stream = {.take = take, .user = user};
	char *text = json_dumps(body, JSON_COMPACT);
	json_t *unused = NULL;

	json_decref(body);
	if (!text) {
		fprintf(stderr, "sluicectl: out of memory\n");
		return CTL_FAILED;
	}
	enum ctl_exit result = ask(ctl, target, text, &stream, &unused);
	json_decref(unused);
	free(text);
	return result;
}

static size_t answer_ignore(char *data, size_t size, size_t count, void *user)
{
	(void)data, (void)user;
	return size * count;
}

bool ctl_post_beside(const struct ctl *ctl, const char *target)
{
	char socket_path[4096], url[8192];
	CURL *handle = curl_easy_init();
	long status = 0;

	if (!handle || !make_socket_path(ctl, socket_path, sizeof(socket_path))) {
		curl_easy_cleanup(handle);
		return false;
	}
	snprintf(url, sizeof(url), "http://localhost%s", target);
	handle_prepare(handle, socket_path, url);
	curl_easy_setopt(handle, CURLOPT_TIMEOUT, BESIDE_SECONDS);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, answer_ignore);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, 0L);
	curl_easy_setopt(handle, CURLOPT_POSTFIELDS, "");
	if (curl_easy_perform(handle) == CURLE_OK)
		curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(handle);
	return status >= 200 && status <= 299;
}

void ctl_http_close(void)
{
	if (curl)
		curl_easy_cleanup(curl);
	curl = NULL;
}
