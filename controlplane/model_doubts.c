/* SPDX-License-Identifier: Apache-2.0 */
#include "model_doubts.h"

#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

struct teller {
	model_doubt_fn tell;
	void *user;
};

__attribute__((format(printf, 2, 3))) static void doubt(const struct teller *to, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	to->tell(to->user, text);
}

void model_doubts(const struct model *model, model_doubt_fn tell, void *user)
{
	const struct teller to = {tell, user};
	const long cpus = sysconf(_SC_NPROCESSORS_CONF);
	char address[46];

	for (uint32_t i = 0; i < model->dataplane.core_count && cpus > 0; i++)
		if (model->dataplane.cores[i] >= (unsigned long)cpus)
			doubt(&to,
			      "dataplane.cores: there is no core %u, this host has 0 to %ld: a dataplane cannot start",
			      model->dataplane.cores[i], cpus - 1);
	for (uint32_t i = 0; i < model->interface_count; i++)
		if (model->interfaces[i].kind == MODEL_INTERFACE_NAME && !if_nametoindex(model->interfaces[i].name))
			doubt(&to, "interfaces: %s: there is no such interface now", model->interfaces[i].name);
	for (uint32_t i = 0; i < model->vip_count; i++)
		if (!if_nametoindex(model->vips[i].interface))
			doubt(&to, "vips: %s: there is no interface %s now: nothing has the address",
			      model_address_text(&model->vips[i].address, address), model->vips[i].interface);
}
