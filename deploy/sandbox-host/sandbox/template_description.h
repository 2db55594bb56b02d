/*
 * template_description - name.json of a template: aliases, start command, readiness, envs, mounts.
 *
 * Owns: reading and checking it. The README of the host describes the fields. Threads: any.
 */
#ifndef SANDBOX_HOST_TEMPLATE_DESCRIPTION_H
#define SANDBOX_HOST_TEMPLATE_DESCRIPTION_H

#include "deploy/sandbox-host/sandbox/template.h"

/* Fills the template from the file; without the file (or with path "") it gets the defaults.
 * ERR_CONFIG names the file and the field. */
int template_description_read(struct template *template, const char *path,
                              struct error *err) MUST_CHECK;

#endif
