/*
 * api_names - names and tags that can be given to templates.
 */
#ifndef SANDBOX_HOST_API_NAMES_H
#define SANDBOX_HOST_API_NAMES_H

#include "common/base/json.h"
#include "deploy/sandbox-host/sandbox/template.h"

/* The names of a template, with their tags. */
cJSON *api_names_tree(const struct template *template);
/* The same without tags. */
cJSON *api_aliases_tree(const struct template *template);
/* Names of tags in body.tags; *ret NULL when there are none and that is allowed. */
int api_read_tags(const cJSON *body, bool needed, const cJSON **ret, struct error *err) MUST_CHECK;
/* A name that can be given to a template; cut into name and tag. */
int api_check_name(const char *reference, char name[TEMPLATE_NAME_BYTES],
                   char tag[TEMPLATE_NAME_BYTES], struct error *err) MUST_CHECK;

/* A template by a reference that names it exactly; ERR_NOT_FOUND. Release it. */
int api_take_exactly(const char *reference, const struct template **ret,
                     struct error *err) MUST_CHECK;

#endif
