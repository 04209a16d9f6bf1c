/*
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#ifndef LAYERED_LAYER_TEXT_H
#define LAYERED_LAYER_TEXT_H 1

/* What the parsers of conditions and of actions have in common. */

#include <string.h>

/* Cuts white space from both ends of 's'. */
static inline char *
trim(char *s)
{
    static const char space[] = " \t\r\n";
    size_t len;

    s += strspn(s, space);
    for (len = strlen(s); len && strchr(space, s[len - 1]); len--) {
        continue;
    }
    s[len] = '\0';
    return s;
}

#endif /* layer-text.h */
