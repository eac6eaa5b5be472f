/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "model.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model of `services` services with `backends` backends each, in descending order of their names. */
static struct model *model_make(uint32_t services, uint32_t backends)
{
	struct model *model = calloc(1, sizeof(*model));
	char name[32];

	assert_non_null(model);
	model->references = 1;
	model->services = calloc(services, sizeof(*model->services));
	model->service_count = services;
	for (uint32_t i = 0; i < services; i++) {
		struct model_service *service = &model->services[i];
		snprintf(name, sizeof(name), "s%05u", services - i);
		service->name = strdup(name);
		service->backends = calloc(backends, sizeof(*service->backends));
		service->backend_count = backends;
		for (uint32_t k = 0; k < backends; k++) {
			snprintf(name, sizeof(name), "b%u", backends - k);
			service->backends[k].name = strdup(name);
		}
	}
	return model;
}

static void every_name_is_found(const struct model *model)
{
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		assert_ptr_equal(model_service_find(model, service->name), service);
		for (uint32_t k = 0; k < service->backend_count; k++)
			assert_ptr_equal(model_backend_find(service, service->backends[k].name), &service->backends[k]);
		assert_null(model_backend_find(service, "b"));
		assert_null(model_backend_find(service, "zzz"));
		assert_null(model_backend_find(service, ""));
	}
	assert_null(model_service_find(model, "s"));
	assert_null(model_service_find(model, "s00000"));
	assert_null(model_service_find(model, "zzz"));
}

static void test_find_without_an_index(void **state)
{
	(void)state;
	struct model *model = model_make(7, 13);
	every_name_is_found(model);
	model_put(model);
}

static void test_find_by_index(void **state)
{
	(void)state;
	static const uint32_t sizes[][2] = {{0, 0}, {1, 1}, {2, 3}, {100, 33}, {3000, 2}};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct model *model = model_make(sizes[i][0], sizes[i][1]);
		assert_int_equal(model_index(model), 0);
		assert_non_null(model->services_by_name);
		every_name_is_found(model);
		assert_int_equal(model_index(model), 0); /* again: the old index is replaced */
		every_name_is_found(model);
		model_put(model);
	}
}

static void test_references(void **state)
{
	(void)state;
	struct model *model = model_make(1, 1);
	assert_ptr_equal(model_get(model), model);
	assert_int_equal(model->references, 2);
	model_put(model);
	assert_int_equal(model->references, 1);
	assert_non_null(model_service_find(model, "s00001")); /* still there */
	model_put(model);
	model_put(NULL);
	model_put(calloc(1, sizeof(*model))); /* half-built */
}

static void test_address_text(void **state)
{
	(void)state;
	static const struct {
		int family;
		const char *in, *out;
	} rows[] = {
	    {AF_INET, "192.0.2.10", "192.0.2.10"},
	    {AF_INET, "255.255.255.255", "255.255.255.255"},
	    {AF_INET6, "2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
	    {AF_INET6, "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
	    {AF_INET6, "2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
	    {AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		union sluice_address address;
		char text[46];
		if (rows[i].family == AF_INET) {
			uint32_t v4;
			assert_int_equal(inet_pton(AF_INET, rows[i].in, &v4), 1);
			address = sluice_address_v4(v4);
		} else {
			assert_int_equal(inet_pton(AF_INET6, rows[i].in, address.bytes), 1);
		}
		assert_ptr_equal(model_address_text(&address, text), text);
		assert_string_equal(text, rows[i].out);
	}
}

static void test_encap(void **state)
{
	(void)state;
	static const struct {
		enum model_forward forward;
		enum sluice_encap v4, v6;
	} rows[] = {
	    {MODEL_FORWARD_L2, SLUICE_ENCAP_L2, SLUICE_ENCAP_L2},
	    {MODEL_FORWARD_IPIP, SLUICE_ENCAP_IPIP4, SLUICE_ENCAP_IPIP6},
	    {MODEL_FORWARD_GUE, SLUICE_ENCAP_GUE4, SLUICE_ENCAP_GUE6},
	    {MODEL_FORWARD_GRE, SLUICE_ENCAP_GRE4, SLUICE_ENCAP_GRE6},
	};
	struct model_backend v4 = {.address = sluice_address_v4(htonl(0x0a000001))};
	struct model_backend v6 = {.address = {.bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct model_service service = {.forward = rows[i].forward};
		assert_int_equal(model_encap(&service, &v4), rows[i].v4);
		assert_int_equal(model_encap(&service, &v6), rows[i].v6);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_find_without_an_index),
	    cmocka_unit_test(test_find_by_index),
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_address_text),
	    cmocka_unit_test(test_encap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
