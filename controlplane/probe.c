/* SPDX-License-Identifier: Apache-2.0 */
/* What an errno says, for every kind of probe. */
#include "probe.h"

#include <errno.h>
#include <string.h>

const char *probe_error_text(int error)
{
	switch (error) {
	case ECONNREFUSED: return "connection refused";
	case ECONNRESET: return "connection reset";
	case EHOSTUNREACH: return "no route to host";
	case ENETUNREACH: return "network unreachable";
	case ETIMEDOUT: return "connection timed out";
	default: return strerror(error);
	}
}

bool probe_error_is_ours(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EADDRNOTAVAIL ||
	       error == EAGAIN || error == EAFNOSUPPORT;
}
