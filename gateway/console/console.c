/* console - see console.h. */
#include "gateway/console/console.h"

#include <string.h>

/* The assembler reads each file from the folder where make runs. */
#define X(symbol, file, type)                                                                      \
    __asm__(".pushsection .rodata\n"                                                               \
            "console_" #symbol ":\n"                                                               \
            ".incbin \"gateway/console/" file "\"\n"                                               \
            "console_" #symbol "_end:\n"                                                           \
            ".popsection\n");                                                                      \
    extern const char console_##symbol[], console_##symbol##_end[];
#include "gateway/console/console_assets.def"
#undef X

static const struct {
    const char *name, *content_type, *begin, *end;
} assets[] = {
#define X(symbol, file, type) {file, type, console_##symbol, console_##symbol##_end},
#include "gateway/console/console_assets.def"
#undef X
};

const struct console_asset *console_asset_find(const char *name, struct console_asset *ret)
{
    for (size_t i = 0; i < sizeof(assets) / sizeof(assets[0]); i++) {
        if (strcmp(assets[i].name, name) == 0) {
            *ret = (struct console_asset){.name = assets[i].name,
                                          .content_type = assets[i].content_type,
                                          .data = assets[i].begin,
                                          .bytes = (size_t)(assets[i].end - assets[i].begin)};
            return ret;
        }
    }
    return NULL;
}
