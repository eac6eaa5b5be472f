/* SPDX-License-Identifier: Apache-2.0 */
/* A file of its own, so that a test can put a clock of its own in its place. */
#include "windows.h"

#include <time.h>

uint32_t windows_now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)t.tv_sec;
}
